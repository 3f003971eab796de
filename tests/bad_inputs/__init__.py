"""Tables of wrong inputs to every command and to the Python API."""
