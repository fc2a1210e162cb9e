"""Side by side with peers, in one process, printing ratios."""
