import express, { Router } from 'express';
import { absolutePath } from 'swagger-ui-dist';

const page = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>certline API</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css"></head>
<body><div id="docs"></div><script src="docs/assets/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body>
</html>
`;
const start = `window.ui = SwaggerUIBundle({ url: 'openapi.json', dom_id: '#docs', deepLinking: true });\n`;
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'";

/** What of it is a page or made here. */
export const docsPaths = ['/docs', '/docs/start.js'];

/** The readable page of the OpenAPI document at `/docs`, with nothing loaded from elsewhere. */
export function docsRouter(): Router {
  const router = Router();
  // Its links are relative: with a slash behind they would lead nowhere.
  router.get('/docs/', (request, response, next) => {
    if (request.path.endsWith('/')) response.redirect('../docs');
    else next();
  });
  router.get('/docs', (_request, response) => {
    response.setHeader('content-security-policy', policy).type('html').send(page);
  });
  router.get('/docs/start.js', (_request, response) => {
    response.type('text/javascript').send(start);
  });
  router.use('/docs/assets', express.static(absolutePath(), { index: false, maxAge: '1h', acceptRanges: false }));
  return router;
}
