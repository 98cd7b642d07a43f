"""Two runs side by side: what differs beyond chance."""
