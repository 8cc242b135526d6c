"""Bad and extreme input, a case each: what is given, and the error or the right answer that comes of it."""
