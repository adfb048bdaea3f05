"""The command line, from its arguments down to the bytes that it reads and writes."""
