"""The figures: one file per figure or table, each Config -> run -> results -> plot."""
