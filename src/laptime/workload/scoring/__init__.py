"""How right an answer is, by the published definitions. Strings in, scores from 0 to 1 out; no torch.

| kind | definition |
|---|---|
| vqa | VQA accuracy: Antol et al., ICCV 2015; Goyal et al., CVPR 2017 (laptime.workload.scoring.vqa) |
| exact | exact match: Rajpurkar et al., EMNLP 2016 (laptime.workload.scoring.match) |
| contains | an answer that holds a right one: Mallen et al., ACL 2023 (laptime.workload.scoring.match) |
| choice | multiple choice: Yue et al., CVPR 2024 (laptime.workload.scoring.choice) |
| anls | average normalised Levenshtein similarity: Biten et al., ICCV 2019 (laptime.workload.scoring.match) |
| relaxed | relaxed accuracy: Methani et al., WACV 2020; Masry et al., ACL 2022 (laptime.workload.scoring.match) |
| yesno | yes or no: Fu et al., arXiv 2306.13394; Li et al., EMNLP 2023 (laptime.workload.scoring.yes_no) |
| cider | CIDEr-D / 10: Vedantam et al., CVPR 2015 (laptime.workload.scoring.cider) |
"""

from laptime.workload.scoring.score import KINDS, Kind, check_scorable, score, scorer

__all__ = ["KINDS", "Kind", "check_scorable", "score", "scorer"]
