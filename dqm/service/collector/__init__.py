"""The program on the detector side: it reads a source, cuts windows and sends them."""
