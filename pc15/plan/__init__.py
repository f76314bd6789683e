"""Choice of what a stream says: ways to code each plane, their cost, and the bytes of the one chosen."""
