"""Systems that complete tables, and estimators of their moments."""
