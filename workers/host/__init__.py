"""What a party's own host has and allows: ``party.toml``, its tables and outputs, its private directories."""
