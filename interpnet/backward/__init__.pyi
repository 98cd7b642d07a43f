from ._rules import RuleReport as RuleReport
from ._rules import backward_rules as backward_rules
from ._rules import check_overridden as check_overridden
