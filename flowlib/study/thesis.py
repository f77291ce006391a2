"""The claims ledger: what the thesis says, the criterion fixed before any run, and the verdict by rule.

A criterion is a list of conditions on measured intervals. A condition holds only when the whole 95 % interval lies on
its side of the bound. All conditions hold: *reproduced*. None: *not reproduced*. Some: *partly*. No evidence: *not run
in this profile*. Bounds are written here, before the run, and are not fitted to what comes out.
"""

from flowlib.study.criteria import Claim, Evidence, above, below, both, within


def as_in_figure_5(evidence: Evidence) -> list[bool]:
    """Cases 4, 7, 8 and 12 lie below one half, the other eight above."""
    return [
        interval.high < 0.5 if case in ("case 4", "case 7", "case 8", "case 12") else interval.low > 0.5
        for case, interval in evidence.items()
    ]


CONTAMINATION, BLACK_PIXELS = "01_contamination", "02_black_pixel_cropping"
SQUARES, FREQUENCIES, BORESCOPE = "03_small_squares", "04_frequencies", "05_borescope"
FEATURES = "08_features"

CLAIMS = [
    Claim(
        "1.1",
        "4.1, Fig. 3",
        "The NLL of normal samples (digit 1) is consistent while the number of anomalies in the training set grows.",
        "same range",
        "In each of cases 2 to 6 the mean NLL of test ones moves, against case 1, by less than a quarter of the "
        "distance between eights and ones in case 1.",
        CONTAMINATION,
        within(-0.25, 0.25),
    ),
    Claim(
        "1.2",
        "4.1, Fig. 3",
        "The NLL of anomalous samples (digit 8) gets better with more of them in the training set.",
        "trend lines fall",
        "The slope of the mean NLL of test eights against log10 of their number is negative, and their mean NLL in "
        "case 6 is below case 1.",
        CONTAMINATION,
        below(0.0, "slope", "case 6 - case 1"),
    ),
    Claim(
        "1.3",
        "4.1",
        "If the fraction of anomalies in the training data is considerably less than the normal samples, the NLL of "
        "normal samples is less than that of anomalies.",
        "holds",
        "AUROC of eights against ones above 0.9 in cases 1 to 3 (0.1 to 10 % eights).",
        CONTAMINATION,
        above(0.9, "case 1", "case 2", "case 3"),
    ),
    Claim(
        "1.4",
        "4.1, Fig. 3",
        "The model neglects the noise: the normal class keeps the lower NLL up to 86.78 % anomalies.",
        "all six cases",
        "AUROC of eights against ones above 0.5 in each of the six cases.",
        CONTAMINATION,
        above(0.5),
    ),
    Claim(
        "1.5",
        "4.1, Fig. 4",
        "Trained on eights only, the model gives ones the better likelihood.",
        "ones below eights",
        "AUROC of ones against eights below 0.5.",
        CONTAMINATION,
        below(0.5),
    ),
    Claim(
        "1.6",
        "4.1",
        "This unusual behaviour is seen with other pairs of digits also.",
        "no number",
        "At least two ordered pairs other than 8 -> 1 have an AUROC below 0.5 (interval and all).",
        CONTAMINATION,
        above(1.5, "other failing pairs"),
    ),
    Claim(
        "1.7",
        "4.1",
        "The behaviour is not necessarily reversible.",
        "no number",
        "At least one pair of digits has an AUROC below 0.5 one way and above 0.5 the other.",
        CONTAMINATION,
        above(0.5, "one-way pairs"),
    ),
    Claim(
        "1.8",
        "4.1, first speculation",
        "MNIST samples are not complex enough, so that the model overfits and simply remembers the data.",
        "speculated",
        "A model that remembers would rank its training eights below test eights: AUROC of test against training "
        "eights above 0.6.",
        CONTAMINATION,
        above(0.6),
    ),
    Claim(
        "1.9",
        "4.1, second speculation",
        "The class that gets the better NLL all the time has more black pixels.",
        "speculated",
        "Over all 90 ordered pairs of digits, the rule 'fails where the anomalous class has more black pixels' is "
        "right in more than 80 % (interval over classes).",
        CONTAMINATION,
        above(0.8),
    ),
    Claim(
        "2.1",
        "4.1.1, Table 2",
        "Average number of black pixels of six Fashion-MNIST classes.",
        "532, 519, 312, 290, 403, 510",
        "Each mean over the training images, truncated, is the table's (row 10's 619 is its own row 2's 519).",
        BLACK_PIXELS,
        within(-0.5, 0.5),
    ),
    Claim(
        "2.2",
        "4.1.1, Fig. 5",
        "Cases 4, 7, 8 and 12 of Table 2 fail, the other eight behave as expected.",
        "4 of 12 fail",
        "AUROC of the anomalous class below 0.5 in cases 4, 7, 8 and 12, above 0.5 in each of the others.",
        BLACK_PIXELS,
        as_in_figure_5,
    ),
    Claim(
        "2.3",
        "4.1.1, Fig. 5",
        "All cases where the model failed have more black pixels in the anomalous class than in the normal class.",
        "4 of 4",
        "In each case of the twelve that fails here (AUROC below 0.5), the anomalous class has more black pixels.",
        BLACK_PIXELS,
        above(0.0),
    ),
    Claim(
        "2.4",
        "4.1.1",
        "MNIST and its simplicity is not the cause: Fashion-MNIST shows the problem too.",
        "4 of 12 fail",
        "At least one of the twelve cases has an AUROC below 0.5.",
        BLACK_PIXELS,
        above(0.5, "failing cases"),
    ),
    Claim(
        "2.5",
        "4.1.1",
        "With the black surround cropped away, case 4 (shirt -> coat) behaves as expected.",
        "behaves",
        "AUROC of cropped coats against cropped shirts above 0.5.",
        BLACK_PIXELS,
        above(0.5),
    ),
    Claim(
        "2.6",
        "abstract; 1; 6",
        "Black pixels adversely affect the likelihood values of the flow-based model.",
        "shown by Fig. 5",
        "Three conditions over all 90 ordered pairs: the rule 'fails where the anomalous class has more black pixels' "
        "is right in more than 75 %; cropping raises the mean AUROC of the pairs that fail; and so does inverting all "
        "images, which turns the black surround white.",
        BLACK_PIXELS,
        both(above(0.75, "rule"), above(0.0, "crop", "invert")),
    ),
    Claim(
        "3.1",
        "4.2, Fig. 7b",
        "Glow differentiates normal from anomalous test samples by NLL only; anomalies are consistently high.",
        "clear difference",
        "AUROC of NLL over all squares above 0.9.",
        SQUARES,
        above(0.9),
    ),
    Claim(
        "3.2",
        "4.2, Fig. 7a",
        "For the convolutional autoencoder the errors of normal and anomalous samples clearly overlap.",
        "clear overlap",
        "AUROC of the reconstruction error over all squares below 0.75.",
        SQUARES,
        below(0.75),
    ),
    Claim(
        "3.3",
        "4.2; 6",
        "Glow detects small anomalies that the convolutional autoencoder does not.",
        "holds",
        "AUROC of Glow less AUROC of the autoencoder above 0 for squares of 2x2, of 3x3 and of 4x4 pixels.",
        SQUARES,
        above(0.0),
    ),
    Claim(
        "3.4",
        "4.2, Fig. 7b",
        "Normal test samples have NLL in a range similar to the training samples.",
        "similar range",
        "AUROC of normal test against training images between 0.4 and 0.6.",
        SQUARES,
        within(0.4, 0.6),
    ),
    Claim(
        "3.5",
        "4.2, Fig. 8",
        "The autoencoder generalises over the anomaly and more often than not makes it similar to the surround.",
        "one picture",
        "In more than half of the squares the reconstruction is closer to the ring around than to the square itself.",
        SQUARES,
        above(0.5),
    ),
    Claim(
        "4.1",
        "4.3, Fig. 10a",
        "Frequency has no effect on the fully connected autoencoder.",
        "no effect",
        "Mean error of the high group within 25 % of the low group's.",
        FREQUENCIES,
        within(-0.25, 0.25),
    ),
    Claim(
        "4.2",
        "4.3, Fig. 11",
        "For every frequency, the fully connected autoencoder's error grows with intensity.",
        "clear trend",
        "Slope of error against intensity above 0 at each of the ten frequencies.",
        FREQUENCIES,
        above(0.0),
    ),
    Claim(
        "4.3",
        "4.3, Fig. 10b",
        "Frequencies 14 and 15 affect the convolutional autoencoder significantly.",
        "stand out",
        "Mean error at 14 and at 15 each above the highest mean of the other eight frequencies.",
        FREQUENCIES,
        above(0.0),
    ),
    Claim(
        "4.4",
        "4.3, Fig. 10c",
        "Frequencies 14 and 15 have significantly higher NLL under Glow than the rest.",
        "stand out",
        "Mean NLL at 14 and at 15 each above the highest mean of the other eight frequencies.",
        FREQUENCIES,
        above(0.0),
    ),
    Claim(
        "4.5",
        "4.3; abstract; 6",
        "The convolutional autoencoder and Glow are biased towards low frequencies: errors trend upward.",
        "upward trend",
        "Slope of error, and of NLL, against frequency above 0.",
        FREQUENCIES,
        above(0.0),
    ),
    Claim(
        "4.6",
        "4.3",
        "The convolutional autoencoder and Glow show no effect of intensity.",
        "no effect",
        "Rank correlation of error, and of NLL, with intensity within one frequency between -0.3 and 0.3.",
        FREQUENCIES,
        within(-0.3, 0.3),
    ),
    Claim(
        "5.1",
        "abstract; 5; 6",
        "The flow-based approach can be used on borescope images and finds the anomaly precisely.",
        "Fig. 13",
        "Image AUROC and pixel AUROC of the NLL map above 0.8.",
        BORESCOPE,
        above(0.8),
    ),
    Claim(
        "5.2",
        "5, Fig. 14",
        "Reflections are detected as anomalies.",
        "two pictures",
        "AUROC of normal pixels in reflections against other normal pixels above 0.75.",
        BORESCOPE,
        above(0.75),
    ),
    Claim(
        "5.3",
        "5, Fig. 14; 6",
        "An anomaly that lies across a patch border is missed.",
        "three pictures",
        "At stride 32, the region overlap of defects inside one patch less that of defects across a border is above 0.",
        BORESCOPE,
        above(0.0),
    ),
    Claim(
        "5.4",
        "5, Fig. 14; 6",
        "Black shadow that shows behind a missing piece is not identified as an anomaly.",
        "one picture",
        "Pixel AUROC of missing pieces that show black below 0.5.",
        BORESCOPE,
        below(0.5),
    ),
    Claim(
        "5.5",
        "5",
        "A smaller stride finds what falls on borders, at the cost of response time.",
        "100 patches at 320x320",
        "Region overlap at stride 8 less that at stride 32, and the ratio of their times less 1, above 0.",
        BORESCOPE,
        above(0.0),
    ),
    Claim(
        "5.6",
        "2",
        "The failure of likelihood on other data (Nalisnick 2018) is unlikely here: normal and anomaly are similar.",
        "assumed",
        "The lowest image AUROC of NLL over the kinds of defect is above 0.5.",
        BORESCOPE,
        above(0.5),
    ),
    Claim(
        "5.7",
        "abstract; 5; 6",
        "The flow-based approach finds the anomaly precisely, on pictures of real parts.",
        "Fig. 13",
        "Image AUROC of Glow's NLL of patches above 0.8 on solar cells, the score the detector's: the mean of the "
        "map's highest tenth.",
        FEATURES,
        above(0.8),
    ),
]
