"""The claims that notebooks 05 and 08 judge: damage on blades (thesis 5), simulated but for the last."""

from flowlib.study.criteria import Amendment, Claim, above, below, both

BORESCOPE, FEATURES = "05_borescope", "08_features"
AMENDED = "2026-11-26"
BLADES = "seeds and blades"

OF_BLADES = [
    Claim(
        "5.1",
        "abstract; 5; 6",
        "The flow-based approach can be used on borescope images and finds the anomaly precisely.",
        "Fig. 13",
        "Image AUROC and pixel AUROC of the NLL map above 0.8.",
        BORESCOPE,
        above(0.8),
        simulated=True,
        units=BLADES,
    ),
    Claim(
        "5.2",
        "5, Fig. 14",
        "Reflections are detected as anomalies.",
        "two pictures",
        "AUROC of metal in reflections against other normal metal of the same frame above 0.75.",
        BORESCOPE,
        above(0.75),
        simulated=True,
        units=BLADES,
        amended=Amendment(
            "AUROC of normal pixels in reflections against other normal pixels above 0.75.",
            AMENDED,
            "against all other pixels, most of them black background, whatever is bright passes.",
        ),
    ),
    Claim(
        "5.3",
        "5, Fig. 14; 6",
        "An anomaly that lies across a patch border is missed.",
        "three pictures",
        "At stride 32, the region overlap of small defects inside one patch less that of small defects across a "
        "border, at equal size, is above 0.",
        BORESCOPE,
        above(0.0),
        simulated=True,
        units=BLADES,
        amended=Amendment(
            "At stride 32, the region overlap of defects inside one patch less that of defects across a border is "
            "above 0.",
            AMENDED,
            "larger defects cross borders more often, and size alone changes the overlap.",
        ),
    ),
    Claim(
        "5.4",
        "5, Fig. 14; 6",
        "Black shadow that shows behind a missing piece is not identified as an anomaly.",
        "one picture",
        "Of the pixels of missing pieces that show black, less than one half score above what 5 % of the same "
        "frame's pixels without a defect exceed.",
        BORESCOPE,
        below(0.5),
        simulated=True,
        units=BLADES,
        amended=Amendment(
            "Pixel AUROC of missing pieces that show black below 0.5.",
            AMENDED,
            "it took any kind of damage, though the claim is of missing pieces, and not identified means a low "
            "recall at a low rate of false positives, not an AUROC below one half.",
        ),
    ),
    Claim(
        "5.5",
        "5",
        "A smaller stride finds what falls on borders, at the cost of response time.",
        "100 patches at 320x320",
        "Region overlap of small defects across a border at stride 8 less that at stride 32, and the ratio of the "
        "times less 1, above 0.",
        BORESCOPE,
        above(0.0),
        simulated=True,
        units=BLADES,
        amended=Amendment(
            "Region overlap at stride 8 less that at stride 32, and the ratio of their times less 1, above 0.",
            AMENDED,
            "it took defects of any place, though the claim is of those on borders.",
        ),
    ),
    Claim(
        "5.6",
        "2",
        "The failure of likelihood on other data (Nalisnick 2018) is unlikely here: normal and anomaly are similar.",
        "assumed",
        "Image AUROC of NLL above 0.5 over all kinds of defect together.",
        BORESCOPE,
        above(0.5),
        simulated=True,
        units=BLADES,
        amended=Amendment(
            "The lowest image AUROC of NLL over the kinds of defect is above 0.5.",
            AMENDED,
            "the lowest of seven kinds, each of a few blades, lies below one half by chance (expected 0.33 where all "
            "are 0.5).",
        ),
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
        units="seeds and cells",
    ),
    Claim(
        "5.8",
        "5, Fig. 14",
        "The model performs well in detecting small anomalies, and may miss bigger ones.",
        "two pictures",
        "Image AUROC of defects of under 100 pixels above 0.8, and of those of 1000 and more below 0.8.",
        BORESCOPE,
        both(above(0.8, "under 100 pixels"), below(0.8, "1000 up pixels")),
        simulated=True,
        units=BLADES,
    ),
    Claim(
        "5.9",
        "5, Fig. 13",
        "The texture of the blade produces some false positives.",
        "two pictures",
        "Within normal frames, of the metal whose 32x32 surround is metal without reflection, AUROC of NLL of the "
        "tenth with the strongest texture (standard deviation of the surround's grey levels) against the rest above "
        "0.75.",
        BORESCOPE,
        above(0.75),
        simulated=True,
        units=BLADES,
    ),
    Claim(
        "5.10",
        "5",
        "Flows take considerably more time to train than other unsupervised models, even for small data sets.",
        "stated",
        "Processor time of a step of training of Glow with the thesis's two levels of 32 steps, over that of the "
        "convolutional autoencoder on as many patches, above 2.",
        BORESCOPE,
        above(2.0),
        units="timed steps",
    ),
    Claim(
        "5.11",
        "6, recommended",
        "With the different viewpoints in mind, a conditional flow is interesting to explore.",
        "not tried",
        "Image AUROC of the flow that is told the viewpoint less that of the flow that is not, above 0.",
        BORESCOPE,
        above(0.0),
        simulated=True,
        units=BLADES,
    ),
    Claim(
        "5.12",
        "6, recommended",
        "The effect of reflections can be resolved with more data; a tenth of the data set was used.",
        "not tried",
        "AUROC of metal in reflections against other metal of the same normal frame: with all training blades below "
        "0.75, the bound of 5.2, and less that with a tenth of them (as many patches and steps) below 0.",
        BORESCOPE,
        both(below(0.75, "all blades"), below(0.0, "all less a tenth")),
        simulated=True,
        units=BLADES,
    ),
    Claim(
        "5.13",
        "6, recommended",
        "Damage that a patch covers partially can be found by making the patch bigger.",
        "not tried",
        "Region overlap of small defects across a border of the 32x32 patches, under patches of 64x64 less under "
        "those of 32x32, each at a stride of its size, above 0.",
        BORESCOPE,
        above(0.0),
        simulated=True,
        units=BLADES,
    ),
    Claim(
        "5.14",
        "5",
        "On a whole image level frames of different viewpoints may look completely different; on a patch level these "
        "images are almost similar, which reduces the complexity while training.",
        "stated",
        "The viewpoint of a normal frame of an unseen blade, one of four, told by the vote of the five nearest "
        "training pictures by grey pixels: from the whole frame, reduced to 32x32, right more often than 0.625, midway "
        "from chance to certainty; from one 32x32 patch of it less often.",
        BORESCOPE,
        both(above(0.625, "whole frames"), below(0.625, "patches")),
        simulated=True,
        units="blades",
    ),
]
