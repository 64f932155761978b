# docker build -t unetrpp .                                                              for CPUs
# docker build -t unetrpp:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .         for NVIDIA GPUs (PyPI's torch brings CUDA)
#
# docker run --rm -v "$PWD/workspace:/workspace" unetrpp doctor
# docker run --rm -v "$PWD/workspace:/workspace" --gpus all --shm-size 8g unetrpp:cuda train Liver 3d_fullres 0
#
# The versions are those of constraints.txt, which were tested together. unetrpp.def is the same for Apptainer.
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=dicom,onnx,hub,dask,serve
# Of the user that owns the workspace: as the one outside, it can write into a mounted folder.
ARG UID=1000

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

COPY . /opt/unetrpp
WORKDIR /opt/unetrpp
RUN python -m pip install --no-deps -c constraints.txt --index-url "$TORCH_INDEX" torch
RUN python -m pip install -c constraints.txt ".[$EXTRAS]"
RUN python -m pip check

RUN useradd --create-home --uid "$UID" unetrpp && mkdir /workspace && chown unetrpp /workspace
USER unetrpp
ENV UNETRPP_WORKSPACE=/workspace
VOLUME /workspace
WORKDIR /workspace
ENTRYPOINT ["unetrpp"]
CMD ["--help"]
