# One of the examples: docker build --build-arg EXAMPLE=gateway . It is at the top because the examples are built from the whole module.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG EXAMPLE=tickets
RUN CGO_ENABLED=0 go build -trimpath -o /example ./examples/${EXAMPLE}

FROM scratch
# For rediss:// and the like.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /example /example
USER 65534:65534
EXPOSE 8080
ENTRYPOINT ["/example"]
