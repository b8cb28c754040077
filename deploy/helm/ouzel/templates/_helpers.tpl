{{- define "ouzel.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "ouzel.labels" -}}
app.kubernetes.io/name: ouzel
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Of one component: (dict "root" $ "component" "worker"). */ -}}
{{- define "ouzel.selector" -}}
app.kubernetes.io/name: ouzel
app.kubernetes.io/instance: {{ .root.Release.Name | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "ouzel.image" -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end }}

{{- define "ouzel.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurityContext.runAsUser }}
runAsGroup: {{ .Values.podSecurityContext.runAsGroup }}
fsGroup: {{ .Values.podSecurityContext.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ouzel.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What every pod has. */ -}}
{{- define "ouzel.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "ouzel.podSecurity" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "ouzel.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* (dict "resources" ... "gpus" 0) */ -}}
{{- define "ouzel.resources" -}}
{{- $limits := deepCopy (.resources.limits | default dict) }}
{{- if .gpus }}
{{- $_ := set $limits "nvidia.com/gpu" .gpus }}
{{- end }}
{{- toYaml (merge (dict "limits" $limits) .resources) }}
{{- end }}

{{- define "ouzel.claim" -}}
{{- $claim := index .root.Values.storage .name -}}
{{- $claim.existingClaim | default (printf "%s-%s" (include "ouzel.name" .root) .name) -}}
{{- end }}

{{- /* Not empty where anything lies in a bucket. */ -}}
{{- define "ouzel.s3" -}}
{{- with .Values.s3 }}{{ .tiles }}{{ .artifacts }}{{ .datasets }}{{ .models }}{{ end -}}
{{- end }}

{{- /* Not empty where agents follow the model store; TorchServe itself reads no bucket. */ -}}
{{- define "ouzel.agents" -}}
{{- if or .Values.agents.enabled .Values.s3.models }}yes{{ end -}}
{{- end }}

{{- define "ouzel.modelStore" -}}
{{- .Values.s3.models | default "/models" -}}
{{- end }}

{{- /* The folder that TorchServe serves. */ -}}
{{- define "ouzel.servedFolder" -}}
{{- if include "ouzel.agents" . }}/served{{ else }}/models{{ end -}}
{{- end }}

{{- define "ouzel.modelsVolume" -}}
{{- if not .Values.s3.models }}
- {name: models, persistentVolumeClaim: {claimName: {{ include "ouzel.claim" (dict "root" . "name" "models") }}}}
{{- end }}
{{- end }}

{{- define "ouzel.s3Env" -}}
{{- if include "ouzel.s3" . }}
{{- if .Values.s3.secret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .Values.s3.secret }}, key: AWS_ACCESS_KEY_ID}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.s3.secret }}, key: AWS_SECRET_ACCESS_KEY}}
{{- end }}
{{- with .Values.s3.endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with .Values.s3.region }}
- {name: AWS_REGION, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "ouzel.agentEnv" -}}
- {name: OUZEL_STATE, value: /state}
- {name: OUZEL_MODEL_STORE, value: /served}
- name: OUZEL_AGENT_NODE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- with include "ouzel.s3Env" . | trim }}
{{ . }}
{{- end }}
{{- end }}

{{- define "ouzel.agentMounts" -}}
- {name: state, mountPath: /state}
- {name: served, mountPath: /served}
{{- if not .Values.s3.models }}
- {name: models, mountPath: /models}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- /* Files of Secrets are root's, and readable by the pod's group: Ouzel refuses secrets that all may read. */ -}}
{{- define "ouzel.secretVolumes" -}}
- name: worker-tokens
  secret:
    secretName: {{ required "worker.tokens.secret: name a Secret with lines OWNER TOKEN" .Values.worker.tokens.secret }}
    defaultMode: 0440
    items: [{key: {{ .Values.worker.tokens.key }}, path: tokens}]
{{- with .Values.metrics.secret }}
- name: metrics-token
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $.Values.metrics.key }}, path: token}]
{{- end }}
{{- end }}

{{- define "ouzel.commonEgress" -}}
- to: {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
- ports: [{port: {{ .Values.postgres.port }}}]
  {{- with .Values.networkPolicy.postgres }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if include "ouzel.s3" . }}
- ports: [{port: {{ .Values.s3.port }}}]
  {{- with .Values.networkPolicy.s3 }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
