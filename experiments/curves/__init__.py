"""What the theorems predict beside what is measured: one file per figure."""
