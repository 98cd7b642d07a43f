"""What the attribution methods show on real images, and that none of them fails there."""
