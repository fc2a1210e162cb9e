"""The figures and tables of the paper (section 5), one file each."""
