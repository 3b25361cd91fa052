"""Can the answer be trusted? A verdict in sentences, with a code for programs."""

import dataclasses

CODES = {
    "converged": "the optimum satisfies the optimality conditions",
    "not_converged": "no restart met the optimality conditions",
    "at_bound": "a parameter sits at the end of its support",
    "term_dead": "a term of the law contributes nothing",
    "not_identified": "the runs leave some parameters open",
    "restarts_disagree": "few restarts agree on the optimum",
    "nonfinite": "the objective is not finite anywhere",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to know about a fit: a code from `CODES` and an English sentence."""

    code: str
    sentence: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a fit is worth: `ok` if nothing speaks against it, and the findings."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against using the fit."""
        return all(finding.code == "converged" for finding in self.findings)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the findings, in order of importance."""
        return tuple(finding.code for finding in self.findings)

    def __contains__(self, code: object) -> bool:
        return code in self.codes

    def __str__(self) -> str:
        return " ".join(finding.sentence for finding in self.findings)
