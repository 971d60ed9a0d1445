"""Task types: one executor class each (1-contract.md section 6).

A new task type is a module with a :class:`~workers.executors.base.BaseTaskExecutor` and one line here;
a package outside this repository adds one through the entry point group below.
"""

from workers.executors.base import BaseTaskExecutor
from workers.registry import Registry

TASK_EXECUTOR_REGISTRY: Registry[type[BaseTaskExecutor]] = Registry(
    {
        "psi": "workers.executors.psi:PSITaskExecutor",
        "unbalanced_psi": "workers.executors.unbalanced_psi:UnbalancedPSIExecutor",
        "vertical_table": "workers.executors.rows:VerticalTableExecutor",
        "split": "workers.executors.rows:SplitExecutor",
        "scale": "workers.executors.preprocessing:ScaleExecutor",
        "one_hot": "workers.executors.one_hot:OneHotExecutor",
        "woe_binning": "workers.executors.woe:WOEBinningExecutor",
        "apply_rule": "workers.executors.apply_rule:ApplyRuleExecutor",
        "table_statistics": "workers.executors.table_statistics:TableStatisticsExecutor",
        "correlation": "workers.executors.statistics:CorrelationExecutor",
        "vif": "workers.executors.statistics:VIFExecutor",
        "stability": "workers.executors.stability:StabilityExecutor",
        "group_by": "workers.executors.group_by:GroupByExecutor",
        "lr": "workers.executors.lr:LogisticRegressionExecutor",
        "ss_glm": "workers.executors.models:SSGLMExecutor",
        "ss_xgb": "workers.executors.models:SSXGBExecutor",
        "sgb": "workers.executors.models:SGBExecutor",
        "predict": "workers.executors.predict:PredictExecutor",
        "evaluate": "workers.executors.evaluate:EvaluateExecutor",
        "component": "workers.executors.component:ComponentExecutor",
        "he_sum": "workers.executors.he_sum:HESumExecutor",
    },
    group="secretflow_controlplane.task_executors",
)
