"""How one step is spread over devices."""
