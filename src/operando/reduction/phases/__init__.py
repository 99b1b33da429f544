"""Phase fractions, lattice parameters and widths by whole-pattern fits of a series of diffraction patterns.

`crystal` computes structure factors, `profile` the pattern of one phase, `engine` puts phases together, `fitting` fits one frame, `sequence` frame
after frame, `amounts` turns scales into fractions with their uncertainties; `recipe` is what a user says, `reducer` what the store gets.
"""
