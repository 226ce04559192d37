"""How graphs run: sessions, devices, and feeding them."""
