"""S2: a watermark on photographs, the class that it raises, and whether the overlay probe names it."""
