"""The documents that an operator writes: what may be stored of them, and how two of them differ."""
