"""A methods paragraph with the numbers of this run in it, and the references it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medgraft.report import drawn, enriched
from medgraft.report.choices import temperature_words, threshold_words
from medgraft.report.phrases import count, decimal, listed, percent, sentence, whole
from medgraft.report.score_names import named
from medgraft.report.verdict import of

Report = Mapping[str, Any]

REFERENCES = {
    "delong": "DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more correlated receiver "
    "operating characteristic curves. Biometrics 1988;44:837-845.",
    "sun": "Sun X, Xu W. Fast implementation of DeLong’s algorithm for comparing the areas under correlated receiver "
    "operating characteristic curves. IEEE Signal Process Lett 2014;21:1389-1393.",
    "bootstrap": "Field CA, Welsh AH. Bootstrapping clustered data. J R Stat Soc B 2007;69:369-390.",
    "wilson": "Wilson EB. Probable inference, the law of succession, and statistical inference. J Am Stat Assoc "
    "1927;22:209-212.",
    "youden": "Youden WJ. Index for rating diagnostic tests. Cancer 1950;3:32-35.",
    "temperature": "Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML 2017.",
    "brier": "Brier GW. Verification of forecasts expressed in terms of probability. Mon Weather Rev 1950;78:1-3.",
    "kappa": "Cohen J. Weighted kappa: nominal scale agreement with provision for scaled disagreement or partial "
    "credit. Psychol Bull 1968;70:213-220.",
    "agreement": "Bland JM, Altman DG. Statistical methods for assessing agreement between two methods of clinical "
    "measurement. Lancet 1986;327:307-310.",
    "adamw": "Loshchilov I, Hutter F. Decoupled weight decay regularization. ICLR 2019.",
    "probe": "Alain G, Bengio Y. Understanding intermediate layers using linear classifier probes. ICLR workshop 2017.",
    "tuning": "Kumar A, Raghunathan A, Jones R, Ma T, Liang P. Fine-tuning can distort pretrained features and "
    "underperform out-of-distribution. ICLR 2022.",
    "lbfgs": "Liu DC, Nocedal J. On the limited memory BFGS method for large scale optimization. Math Program "
    "1989;45:503-528.",
    "lora": "Hu EJ, Shen Y, Wallis P, Allen-Zhu Z, Li Y, Wang S, et al. LoRA: low-rank adaptation of large language "
    "models. International Conference on Learning Representations. 2022.",
    "norms": "Li Y, Wang N, Shi J, Hou X, Liu J. Adaptive batch normalization for practical domain adaptation. Pattern "
    "Recognit 2018;80:109-117.",
    "zones": "Park S, Kim G, Oh Y, et al. Multi-task vision transformer using low-level chest X-ray feature corpus for "
    "COVID-19 diagnosis and severity quantification. Med Image Anal 2022;75:102299.",
    "metrics": "Maier-Hein L, Reinke A, et al. Metrics Reloaded: recommendations for image analysis validation. "
    "Nat Methods 2024;21:195-212.",
    "claim": "Tejani AS, Klontzas ME, Gatti AA, et al. Checklist for artificial intelligence in medical imaging "
    "(CLAIM): 2024 update. Radiol Artif Intell 2024;6:e240300.",
    "tripod": "Collins GS, Moons KGM, Dhiman P, et al. TRIPOD+AI statement: updated guidance for reporting clinical "
    "prediction models that use regression or machine learning methods. BMJ 2024;385:e078378.",
}


class _Citations:
    """Numbers in the order of first use."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def __call__(self, *names: str) -> str:
        for name in names:
            if name not in self.used:
                self.used.append(name)
        return "[" + ",".join(str(self.used.index(name) + 1) for name in names) + "]"


def methods(report: Report) -> dict[str, list[str]]:
    """Get {"paragraphs", "references"}: text ready to paste; only what this run did is said."""
    cite = _Citations()
    given = report.get("methods")
    if given:
        return {"paragraphs": [str(given)], "references": []}
    parts = [_data, _model, _training, _added, _statistics, _zones]
    paragraphs = [" ".join(part(report, cite)) for part in parts]
    return {"paragraphs": [p for p in paragraphs if p], "references": [REFERENCES[name] for name in cite.used]}


def _added(report: Report, cite: _Citations) -> Iterator[str]:
    yield enriched.methods(report)


def _zones(report: Report, cite: _Citations) -> Iterator[str]:
    told = of(report, "severity")
    if not told.get("zones"):
        return
    rows, columns = told["grid"]
    yield f"Beside the diagnosis the model gives the severity of each of {rows * columns} zones {cite('zones')}."
    yield (
        "A second head on the last three levels of the encoder gives every place a severity and says how far it "
        f"belongs to each zone, beginning with the cells of a grid of {rows} rows and {columns} columns; the severity "
        "of a zone is a generalised mean over its places. Unknown diagnoses and zones were left out of the losses."
    )
    kappa = f"quadratic weighted kappa {cite('kappa')}, " if told.get("grades") else ""
    yield f"Zones and their sums are judged by {kappa}Spearman’s correlation and the mean absolute error."
    if of(told, "intervals", "reach").get("sum") is not None:
        wanted = percent(float(of(told, "intervals")["coverage"]))
        yield f"Intervals meant to hold the true sum in {wanted} of images are split conformal, from validation images."


def _data(report: Report, cite: _Citations) -> Iterator[str]:
    images, patients = of(report, "data", "images"), of(report, "data", "patients")
    if report.get("phantoms"):
        yield "The images are procedural phantoms."
    if images:
        total = count(sum(v or 0 for v in images.values()), "image")
        people = f" of {count(sum(v or 0 for v in patients.values()), 'patient')}" if patients else ""
        names = {"train": "training", "val": "validation", "test": "test"}
        each = [f"{whole(n)} for {names.get(s, s)}" for s, n in images.items() if n]
        yield f"We used {total}{people}: {listed(each)}."
    by = None if report.get("evaluated_run") else of(report, "data").get("split_by")
    if report.get("evaluated_run"):
        yield f"All of them are test images: the model of run {report['evaluated_run']} had not seen them."
    elif by == "patient":
        parted = ", so that no patient is in two parts" if not of(report, "data").get("leaks_allowed") else ""
        yield f"The split is by patient{parted}."
    elif by == "image":
        yield "Patients were not known; the split is by image, with near-duplicate images kept in one part."
    if of(report, "data").get("split_source") and not report.get("evaluated_run"):
        yield sentence(of(report, "data")["split_source"])
    if of(report, "data").get("quarantined"):
        yield f"{count(of(report, 'data')['quarantined'], 'file')} could not be read and took no part."


def _model(report: Report, cite: _Citations) -> Iterator[str]:
    backbone, depth = of(report, "backbone"), of(report, "depth")
    if not backbone:
        return
    name = drawn.encoder(report)
    size = None if drawn.is_drawn(report) else of(backbone, "input").get("size")
    start = (
        "with random initial weights"
        if backbone.get("random")
        else f"with weights from {backbone.get('source') or 'its source'}"
    )
    parameters = f" ({whole(backbone['parameters'])} parameters)" if backbone.get("parameters") else ""
    pixels = f" Images were resized to {size[0]} × {size[1]} pixels." if size else ""
    if drawn.is_whole(report):
        yield f"The net was {name}{parameters}, {start}."
        return
    head = "decoder" if drawn.is_drawn(report) else "head"
    yield f"The encoder was {name}{parameters}, {start}; its classifier was replaced by a new {head}.{pixels}"
    if backbone.get("pooling") == "levels":
        yield "The head saw the averages of the encoder’s last three levels and the largest values of the last."
    if backbone.get("recalibrated"):
        images = count(backbone["recalibrated"], "training image")
        source = cite("norms")
        yield f"The statistics of batch normalisation were estimated anew on {images}, without labels {source}."
    thawed, every = depth.get("thawed_stages"), depth.get("of")
    if thawed is None:
        return
    if thawed == 0:
        yield f"All stages of the encoder stayed frozen and the {head} alone was trained."
    elif depth.get("adapters"):
        source, rank = cite("lora"), depth["adapters"]
        yield f"All stages were tuned by adapters of rank {rank} {source}, which were then added to the weights."
    elif every is not None and thawed >= every:
        yield f"All {every} stages were fine-tuned."
    else:
        yield f"The {thawed} of {every} stages next to the head were fine-tuned, the others stayed frozen."
    if depth.get("reason"):
        yield f"This depth was chosen because {_lower(depth['reason'])}."


def _training(report: Report, cite: _Citations) -> Iterator[str]:
    training, augment = of(report, "training"), of(report, "augment")
    if training.get("probe"):
        yield from _probe(training, cite, by_patient=of(report, "data").get("split_by") == "patient")
    if training.get("optimiser"):
        name = str(training["optimiser"])
        rate = f", learning rate {training['learning_rate']:g}" if _is_number(training.get("learning_rate")) else ""
        decay = f", weight decay {training['weight_decay']:g}" if _is_number(training.get("weight_decay")) else ""
        batch = f", batches of {training['batch_size']}" if training.get("batch_size") else ""
        source = f" {cite('adamw')}" if name.lower() == "adamw" else ""
        lead = f"From there {cite('tuning')} we" if training.get("probe") else "We"
        yield f"{lead} trained with {name}{source}{rate}{decay}{batch}."
    if training.get("epochs"):
        score = f" by validation {named(training['score']).spoken}" if training.get("score") else ""
        best = f"; the weights of epoch {training.get('best_epoch')} were kept{score}"
        if training.get("best_epoch") is None:
            best = ""
        elif training["best_epoch"] == 0:
            begun = "the probe, which was" if training.get("probe") else "the weights before the first, which were"
            best = f"; none was better than {begun} kept{score}"
        yield f"Training took {count(training['epochs'], 'epoch')}{best}."
    for name in ("schedule", "loss", "balance"):
        if training.get(name):
            lead = {
                "schedule": "The learning rate schedule was ",
                "loss": "The loss was ",
                "balance": "Class balance: ",
            }[name]
            yield sentence(lead + str(training[name]))
    if augment.get("preset") and augment["preset"] != "none":
        steps = f": {listed([str(s).split(' (', 1)[0] for s in augment['steps']])}" if augment.get("steps") else ""
        yield f"Training images were augmented (preset “{augment['preset']}”{steps})."


def _probe(training: Mapping[str, Any], cite: _Citations, *, by_patient: bool) -> Iterator[str]:
    probe = training["probe"]
    images = count(probe["images"], "training image") if probe.get("images") else "the training images"
    more = (probe.get("views") or 1) - 1
    views = f", each as it is and in {count(more, 'augmented view')}" if more > 0 else ""
    yield (
        f"The head was put at the minimum of the loss with an L2 penalty on its weights {cite('probe')}, for "
        f"standardised features of {images}{views}, by L-BFGS {cite('lbfgs')}."
    )
    if probe.get("folds"):
        whole_patients = ", with the images of a patient kept together" if by_patient else ""
        yield (
            f"The strength of the penalty, {probe['strength']:.3g}, had the least loss in {probe['folds']}-fold "
            f"cross-validation within these images{whole_patients}."
        )


def _statistics(report: Report, cite: _Citations) -> Iterator[str]:
    test = of(report, "scores", "test")
    how = " ".join(str(score.get("method") or "") for score in test.values()).lower()
    how += " ".join(str(of(report, "operating_point", n).get("method") or "") for n in ("sensitivity", "ppv")).lower()
    if test:
        yield f"We report {listed([named(n).spoken for n in test])} {cite('metrics')} with 95 % confidence intervals."
    if "delong" in how:
        yield f"Intervals of AUROC follow DeLong {cite('delong', 'sun')}."
    if "bootstrap" in how:
        unit = "patients" if of(report, "data").get("split_by") == "patient" else "images"
        lead = "Other intervals" if "delong" in how else "Intervals"
        yield f"{lead} come from a bootstrap over {unit} {cite('bootstrap')}."
    if "wilson" in how:
        yield f"Intervals of proportions follow Wilson {cite('wilson')}."
    if drawn.is_drawn(report):
        yield "Scores are of each image on the grid of its file, then their mean; what was missed got the worst value."
    point = of(report, "operating_point")
    if _is_number(point.get("threshold")):
        source = f" {cite('youden')}" if "youden" in str(point.get("rule")).lower() and not point.get("why") else ""
        threshold = decimal(point["threshold"])
        yield f"The threshold {threshold} was {threshold_words(point)}{source}, and then left alone."
    elif point.get("threshold"):
        source = f" {cite('youden')}" if "youden" in str(point.get("rule")).lower() else ""
        ends = " to ".join(decimal(float(end(point["threshold"]))) for end in (min, max))
        yield f"The thresholds, one a label ({ends}), were {threshold_words(point)}{source}, and then left alone."
    said = temperature_words(report)
    if said:
        yield f"{said[0]} {cite('temperature')}".replace(". [", " [") + "."
    if "brier" in test:
        yield f"The Brier score {cite('brier')} measures probabilities as a whole."
    if "quadratic_kappa" in test:
        yield f"Agreement on grades is Cohen’s kappa with quadratic weights {cite('kappa')}."
    if "mae" in test and not report.get("classes"):
        yield f"Differences are shown against means {cite('agreement')}."
    seed = f" with seed {report['seed']}" if report.get("seed") is not None else ""
    lists = f"CLAIM 2024 {cite('claim')} and TRIPOD+AI {cite('tripod')}"
    yield f"The run used medgraft {report.get('medgraft', '')}{seed}; the checklist follows {lists}."


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _lower(words: str) -> str:
    words = str(words).strip().rstrip(".")
    first = words.split(" ", 1)[0]
    return words if first.isupper() and len(first) > 1 else words[:1].lower() + words[1:]
