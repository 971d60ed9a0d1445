"""What an execution found, as people look at it: a headline, figures, tables and pictures. Made of the result alone."""
