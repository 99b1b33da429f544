"""Total scattering: I(Q) -> S(Q), F(Q), G(r) as one linear operator per series, and what is read off G(r).

`scattering_factors` gives <f>, <f^2> and the Compton scattering of a composition; `operator` the chain from intensity to G(r) with its errors;
`reducer` the stage `total-scattering`; `shells` the stage `pdf-shells` (first shell, coherence length); `components` the stage `pdf-components`
(components, fractions of standards, difference to a reference); `refinement` the stage `pdf-refine` (crystal structures through PDFfit2).
"""
