# docker build -t livehook .
# docker run -e LIVEHOOK_KEY=… -p 8080:8080 -e LIVEHOOK_ADMIN_TOKEN=… -p 127.0.0.1:9090:9090 -v livehook:/data --stop-timeout 20 livehook

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# The dependencies, built around an empty program: this layer stays until they change.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY crates/css-callbacks/Cargo.toml crates/css-callbacks/Cargo.toml
COPY crates/css-simulator/Cargo.toml crates/css-simulator/Cargo.toml
RUN mkdir src crates/css-callbacks/src crates/css-simulator/src && \
    touch src/lib.rs crates/css-callbacks/src/lib.rs crates/css-simulator/src/lib.rs && \
    echo 'fn main() {}' >src/main.rs && cargo build --release --locked -p livehook
COPY crates crates
COPY src src
# Newer than the empty program, whatever times the sources came with.
RUN touch src/lib.rs src/main.rs crates/*/src/lib.rs && cargo build --release --locked -p livehook && mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="livehook" \
      org.opencontainers.image.description="Receives Tencent Cloud CSS live-streaming callbacks, stores them durably and hands them to your handlers" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /usr/share/doc/livehook/LICENSE
COPY config/container.toml /etc/livehook/livehook.toml
COPY --from=build /src/target/release/livehook /usr/local/bin/livehook
# A fresh volume takes its owner from here.
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
VOLUME /data
# Callbacks; metrics, API and console, which container.toml keeps inside the container unless LIVEHOOK_ADMIN_TOKEN is set.
EXPOSE 8080 9090
# Reads the configuration that the server reads if that is the file above or named by LIVEHOOK_CONFIG.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s CMD ["/usr/local/bin/livehook", "health", "--ready"]
ENTRYPOINT ["/usr/local/bin/livehook"]
CMD ["serve"]
