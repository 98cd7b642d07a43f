from ._report import RuleReport as RuleReport
from ._report import check_overridden as check_overridden
from ._rules import backward_rules as backward_rules
