"""FLAME coefficients by optimisation, without a network: from landmarks and from scans."""
