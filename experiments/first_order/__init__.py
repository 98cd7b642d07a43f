"""R1: how well a contribution estimates what the removal of the channel costs."""
