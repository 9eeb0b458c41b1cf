"""How right an answer is, by the published definitions. Strings in, scores from 0 to 1 out; no torch.

| kind | definition |
|---|---|
| vqa | VQA accuracy: Antol et al., ICCV 2015; Goyal et al., CVPR 2017 (laptime.workload.scoring.vqa) |
| exact | exact match: Rajpurkar et al., EMNLP 2016 (laptime.workload.scoring.match) |
| choice | multiple choice: Yue et al., CVPR 2024 (laptime.workload.scoring.choice) |
| anls | average normalised Levenshtein similarity: Biten et al., ICCV 2019 (laptime.workload.scoring.match) |
| relaxed | relaxed accuracy: Methani et al., WACV 2020; Masry et al., ACL 2022 (laptime.workload.scoring.match) |
"""

from laptime.workload.scoring.score import KINDS, Kind, check_scorable, score

__all__ = ["KINDS", "Kind", "check_scorable", "score"]
