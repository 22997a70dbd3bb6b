# One image for controllers and workers: `docker run crank-router controller …`, `… worker hello_world`.
FROM python:3.11-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
COPY requirements.lock /tmp/requirements.lock
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl && useradd --create-home crank
USER crank
WORKDIR /home/crank
EXPOSE 9464
ENTRYPOINT ["crank"]
CMD ["--help"]
