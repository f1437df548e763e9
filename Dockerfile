# The program alone: one static file, no shell, no package manager, an ordinary
# user. It writes to /state and nowhere else: give it a volume there that outlives the
# container, and run it with a read-only root (see docker-compose.yml).
# The private Postgres is not in here: set DATABASE_URL.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=container
RUN CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.release=${VERSION}" -o /out/dialer ./cmd/dialer && mkdir -m 700 /out/state

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/dialer /dialer
COPY --from=build --chown=65532:65532 /out/state /state
ENV DIALER_STATE=/state
USER 65532:65532
ENTRYPOINT ["/dialer"]
CMD ["serve"]
