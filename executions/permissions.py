"""Who may look at what was run, run something, and cancel it: in the admin, in the API and by schedules alike.

They are Django's permissions on executions. Pipeline runs and pre-flight checks have none of their own.
"""

VIEW = "executions.view_execution"
RUN = "executions.add_execution"
CANCEL = "executions.change_execution"
