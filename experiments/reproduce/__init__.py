"""`jsharp reproduce`: the paper's figures and tables, the bridge and the failures."""
