-- Health of a DispatchSystem for Argo CD (resource.customizations.health.dispatch.coactus.io_DispatchSystem).
-- Argo CD does not call the script for an object that is being deleted; it always shows such an object as Progressing.
local function progressing(message)
  return { status = "Progressing", message = message }
end

local status = obj.status
if status == nil or status.conditions == nil then
  return progressing("The operator has not observed the system yet")
end
-- Conditions of an older spec do not count. The resource definition sets -1 before the first reconcile.
if status.observedGeneration == nil or status.observedGeneration ~= obj.metadata.generation then
  return progressing("The operator has not observed the latest change yet")
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local function is(type)
  return conditions[type] ~= nil and conditions[type].status == "True"
end
local function message(type)
  local condition = conditions[type]
  return condition ~= nil and (condition.message or condition.reason) or ""
end

if is("Stalled") then
  return { status = "Degraded", message = message("Stalled") }
end
-- Suspension and pending plans wait for the user on purpose, so they take precedence over Ready and Reconciling.
if is("Paused") then
  return { status = "Suspended", message = message("Paused") }
end
if is("PlanPending") then
  return { status = "Suspended", message = message("PlanPending") }
end
if is("Ready") then
  return { status = "Healthy", message = message("Ready") }
end
if is("Reconciling") then
  return progressing(message("Reconciling"))
end
return progressing(message("Ready"))
