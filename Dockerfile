# An image with the postrider binary: no shell, no package manager.
#
#   docker build --tag postrider .
#   docker run --rm postrider --help
#
# With traces by OpenTelemetry: docker build --build-arg FEATURES=otel --tag postrider .
#
# The build needs about 4 GB of memory. The health check asks the process inside, so it only applies
# to `serve`: other commands end before the first check.

FROM rust:1.94.0-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ARG FEATURES=""
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY migrations migrations
COPY tests/Cargo.toml tests/Cargo.toml
COPY tests/src tests/src
COPY tests/it tests/it
COPY tests/macros tests/macros
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package postrider --features "$FEATURES" \
    && install -D --mode 0755 target/release/postrider /out/postrider \
    && install --directory --mode 0770 /out/data

# Has certificates, time zones and an unprivileged user; no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/postrider /usr/local/bin/postrider
# The working folder: the SQLite file is here unless a database is configured. Of the group 0, in
# which OpenShift runs an image as any user.
COPY --from=build --chown=65532:0 /out/data /data
WORKDIR /data
USER nonroot:nonroot
ENV POSTRIDER_API__LISTEN=0.0.0.0:8080 \
    POSTRIDER_METRICS__LISTEN=0.0.0.0:9464
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/usr/local/bin/postrider", "health"]
ENTRYPOINT ["/usr/local/bin/postrider"]
CMD ["serve"]
