"""FunnyBirds, rendered: what removing a part costs a network, and who knows it beforehand."""
