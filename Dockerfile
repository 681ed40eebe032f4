# docker build -t latentcot . && docker run --gpus all -v "$PWD:/work" latentcot quickstart --out runs/mine
# PyPI's torch for Linux brings its CUDA; the host needs the driver and the NVIDIA container toolkit.
FROM python:3.13-slim
COPY . /src
RUN pip install --no-cache-dir -c /src/constraints.txt "/src[lora]"
WORKDIR /work
ENTRYPOINT ["latentcot"]
