"""S4: a head that tells huskies from wolves, on photographs whose every wolf stands in snow."""
