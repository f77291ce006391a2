"""The claims ledger: what the thesis says, the criterion fixed before any run, and the verdict by rule.

A criterion is a list of conditions on measured intervals (95 %, over training seeds and test images). A condition holds
where the whole interval lies on its side of the bound, is contradicted where the whole interval lies on the other, and
is open where the interval straddles it. All conditions hold: *reproduced*. Some: *partly*. None, and one at least is
contradicted: *not reproduced*. Otherwise *undecided*: more seeds, images or blades would decide. No evidence: *not
run*. Bounds are written here, before the run, and are not fitted to what comes out; a criterion that was changed keeps
its first form, with date and reason.

They stand in the three modules below, in the order of the thesis's sections. The rows 1.10, 1.11, 2.7, 3.6 to 3.9 and
5.8 to 5.11 were added on 2026-11-26, when figures that bear on 1.11, 3.6, 3.7, 3.9, 5.8 and 5.11 were already known;
5.12 to 5.14 on 2026-11-27, before anything of them was measured.
"""

from flowlib.study.blades import OF_BLADES
from flowlib.study.digits_and_garments import OF_CLASSES
from flowlib.study.squares_and_gratings import OF_MODELS

CLAIMS = [*OF_CLASSES, *OF_MODELS, *OF_BLADES]
