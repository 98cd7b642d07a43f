"""Whether the library keeps its word under faults, odd inputs, kills and damage, and whether its tests would notice."""
