"""Systems that predict ratings and answers."""
