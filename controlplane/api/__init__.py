"""The REST API of what an operator registers, and the parts that all of the API is made of."""
