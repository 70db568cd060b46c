# fan-fer serve: docker build -t fan-fer . && docker run -e FAN_FER_TOKEN=... -p 8351:8351 -v fan-fer:/data fan-fer
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/fan-fer
ENV PATH=/opt/fan-fer/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY constraints.txt .
# Without CUDA; for a GPU give another index, and docker run --gpus all.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --quiet --constraint constraints.txt --index-url "$TORCH_INDEX" torch
RUN pip install --quiet --target /opt/tools "scikit-build-core>=0.11" "pybind11>=2.13" "cmake>=3.28" ninja
COPY . .
RUN PYTHONPATH=/opt/tools PATH=/opt/tools/bin:$PATH FAN_EXT_CUDA=OFF \
    pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /opt/wheel .
# OpenCV without windows, which needs no libraries of a desktop.
RUN pip install --quiet --constraint constraints.txt "$(ls /opt/wheel/*.whl)[serve]" \
 && pip uninstall --quiet --yes opencv-python \
 && pip install --quiet "$(sed -n 's/^opencv-python==/opencv-python-headless==/p' constraints.txt)"

FROM python:3.12-slim
COPY --from=build /opt/fan-fer /opt/fan-fer
RUN useradd --system --uid 10001 fan-fer && mkdir /data && chown fan-fer /data
ENV PATH=/opt/fan-fer/bin:$PATH MPLCONFIGDIR=/tmp/matplotlib
USER fan-fer
VOLUME /data
EXPOSE 8351
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8351/v1/health', timeout=4)"]
ENTRYPOINT ["fan-fer"]
CMD ["serve", "--host", "0.0.0.0", "--data", "/data"]
