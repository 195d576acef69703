{{- define "operator.selector" -}}
app.kubernetes.io/name: dispatch-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/part-of: coactus-dispatch
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* The lists of what specs may ask for. By default nothing is allowed if the operator watches all namespaces, and
anything if it watches one. */}}
{{- define "operator.restrictions" -}}
{{- $default := ternary "Any" "None" .Values.namespaced -}}
{{- $given := .Values.restrictions -}}
{{- range $list := list "allowedRoleArns" "allowedRegions" "allowedImages" "allowedServiceAccountAnnotations" "allowedPriorityClasses" "allowedHosts" -}}
{{- $value := get $given $list | default (ternary "Any" $default (eq $list "allowedRegions")) -}}
{{- if ne $value "Any" }}
- {{ printf "--%s=%s" (kebabcase $list) $value | quote }}
{{- end }}
{{- end }}
{{- if eq ($given.requireSecretLabel | toString) "true" | or (and (kindIs "invalid" $given.requireSecretLabel) (not .Values.namespaced)) }}
- --require-secret-label
{{- end }}
{{- with $given.externalIds | default (ternary "Spec" "Derived" .Values.namespaced) }}
{{- if ne . "Spec" }}
- --external-ids={{ . }}
{{- end }}
{{- end }}
{{- with $given.clusterId }}
- {{ printf "--cluster-id=%s" . | quote }}
{{- end }}
{{- with $given.mode }}
- --restrictions={{ . }}
{{- end }}
{{- end }}
