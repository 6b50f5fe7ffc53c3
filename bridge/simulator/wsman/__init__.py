"""The WSMan front of a simulated endpoint: HTTP, authentication, sealing, SOAP, shells (MS-WSMV)."""
