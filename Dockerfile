# The page on a server of your own: docs/deploy.md#a-server-of-your-own says how it is built and started.
FROM python:3.12-slim

WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt
COPY app.py ./
COPY ura_hf ura_hf

RUN useradd --create-home uranet
USER uranet
EXPOSE 7860
ENTRYPOINT ["python", "app.py", "--host", "0.0.0.0", "--port", "7860", "--public"]
CMD ["--checkpoint", "uranet-demo-ring"]
