"""Q3 and Q4: what is due to the channels, and what to the stride-1 resampling."""
