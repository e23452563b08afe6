# mobilessd on a CPU, without torch: OpenVINO, the page, tracking, MQTT. See docs/live.md.
#   docker build -t mobilessd .
FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv --without-pip /opt/mobilessd \
 && python -m pip --python /opt/mobilessd/bin/python install --no-cache-dir ".[runtime,live,track,mqtt]"
# What a CPU has no use for: OpenVINO's plugins for GPUs and NPUs, its readers of formats other than its own and ONNX, and
# the tests of numpy and scipy.
RUN find /opt/mobilessd -depth \( -name __pycache__ -o -name tests -o -name "libopenvino_intel_[gn]pu_plugin.so" \
    -o -name "libopenvino_[gjpt]*_frontend*" -o -path "*/openvino/libs/cache.json" \) -exec rm -r {} +

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home mobilessd \
 && install -d -o mobilessd /data
COPY --from=build /opt/mobilessd /opt/mobilessd
ENV PATH=/opt/mobilessd/bin:$PATH PYTHONUNBUFFERED=1
USER mobilessd
WORKDIR /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["mobilessd"]
CMD ["live", "--no-source", "--host", "0.0.0.0"]
