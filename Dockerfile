# The gateway, with nothing in it that is not needed to run it.
#   docker build --tag mcp-gateway .
#   docker run --rm --publish 127.0.0.1:8000:8000 --volume gateway:/data mcp-gateway

FROM python:3.13-slim AS build
WORKDIR /src
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=/opt/gateway
RUN pip install --no-cache-dir 'uv>=0.9,<1'
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --no-install-project --extra gateway --extra postgresql --extra demo
COPY fastapi_server ./fastapi_server
RUN uv sync --locked --no-dev --no-editable --extra gateway --extra postgresql --extra demo

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home gateway && install -d -o gateway -g gateway /data
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1 GATEWAY_DATABASE=sqlite+aiosqlite:////data/gateway.db
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["mcp-clients", "serve", "--host", "0.0.0.0", "--port", "8000", "--require-key"]
